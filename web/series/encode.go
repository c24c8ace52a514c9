package series

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// format is the first byte of what is kept; what follows is deflated: each ring
// with its step, its last step and its points, little endian.
const format = 1

var errFormat = errors.New("unknown format")

type kept struct {
	Step, Last int64
	At         [Points][names]float32
}

func encode(rings []*ring) ([]byte, error) {
	out := bytes.NewBuffer([]byte{format})
	w, err := flate.NewWriter(out, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	for _, r := range rings {
		if err := binary.Write(w, binary.LittleEndian, kept{r.step, r.last, r.at}); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return out.Bytes(), err
}

// decode fills rings with what encode wrote, all or none.
func decode(p []byte, rings []*ring) error {
	if len(p) == 0 || p[0] != format {
		return errFormat
	}
	in := flate.NewReader(bytes.NewReader(p[1:]))
	all := make([]kept, len(rings))
	for i := range all {
		if err := binary.Read(in, binary.LittleEndian, &all[i]); err != nil {
			return fmt.Errorf("%w: %w", errFormat, err)
		}
		if all[i].Step != rings[i].step || all[i].Last < 0 {
			return errFormat
		}
	}
	if n, _ := in.Read(make([]byte, 1)); n > 0 {
		return fmt.Errorf("%w: %w", errFormat, io.ErrShortBuffer)
	}
	for i, r := range rings {
		r.last, r.at = all[i].Last, all[i].At
	}
	return nil
}
