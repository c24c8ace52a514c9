package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// flagError names the flag that is nearest to one that there is not.
func flagError(cmd *cobra.Command, err error) error {
	var unknown interface{ GetSpecifiedName() string } // pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	}
	word := unknown.GetSpecifiedName()
	if near, ok := similar(word, flagsOf(cmd)); ok {
		return fmt.Errorf("unknown flag --%s; did you mean --%s?", word, near)
	}
	return fmt.Errorf("unknown flag --%s; see %s --help", word, cmd.CommandPath())
}

func flagsOf(cmd *cobra.Command) (names []string) {
	for line := range strings.Lines(cmd.LocalFlags().FlagUsages()) {
		if _, rest, ok := strings.Cut(line, "--"); ok {
			names = append(names, strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '[' || r == '=' || r == '\n' })[0])
		}
	}
	return names
}
