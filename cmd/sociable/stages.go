package main

import (
	"context"
	"errors"
	"fmt"
)

// stages runs parts that end in the reverse order of their start.
type stages struct {
	life  context.Context
	ends  []func() error
	first chan error // of a part that ended by itself
}

func newStages(life context.Context) *stages {
	return &stages{life: life, first: make(chan error, 16)}
}

func (s *stages) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(s.life)
	done := make(chan error, 1)
	go func() { // waited for in wait
		err := run(ctx)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		if ctx.Err() == nil {
			s.first <- err
		}
		done <- err
	}()
	s.ends = append(s.ends, func() error { cancel(); return <-done })
}

// wait returns when ctx ended, or a part did, and all have stopped.
func (s *stages) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.first: //nolint:errcheck // it is among the errors of the ends, too
	}
	var err error
	for i := len(s.ends) - 1; i >= 0; i-- {
		err = errors.Join(err, s.ends[i]())
	}
	return err
}
