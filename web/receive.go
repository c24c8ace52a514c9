package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"github.com/sociable/sociable/internal/oci"
)

// smallBody bounds the bodies of requests about a few names.
const smallBody = 4096

// receive reads a small JSON body.
func receive(w http.ResponseWriter, r *http.Request, into any) error {
	return receiveUpTo(smallBody, w, r, into)
}

func receiveUpTo(most int64, w http.ResponseWriter, r *http.Request, into any) error {
	return ReadJSON(http.MaxBytesReader(w, r.Body, most), into)
}

// ReadJSON reads a body that is one JSON value, and nothing behind it, into the
// struct that into points to. The error is an *oci.Error, which says what is wrong
// with the body and what it has room for.
func ReadJSON(body io.Reader, into any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, end := d.Token(); end == io.EOF {
			return nil
		}
		err = errors.New("something stands behind its end")
	}
	var long *http.MaxBytesError
	message, takes := "the body is not the JSON that this takes: ", fieldsOf(into)
	switch {
	case errors.Is(err, io.EOF):
		return &oci.Error{Code: errcode.ErrorCodeNameInvalid, Err: err, Message: "the body is empty: send JSON, " + takes}
	case errors.Is(err, io.ErrUnexpectedEOF):
		message += "it is cut off"
	case errors.As(err, &long):
		message += fmt.Sprintf("it has more than %d bytes", long.Limit)
	default:
		message += strings.TrimPrefix(err.Error(), "json: ")
	}
	return &oci.Error{Code: errcode.ErrorCodeNameInvalid, Err: err, Message: message + "; this takes " + takes}
}

// fieldsOf names what a body has room for.
func fieldsOf(into any) string {
	var names []string
	t := reflect.TypeOf(into).Elem()
	if t.Kind() != reflect.Struct {
		return "a JSON " + t.Kind().String()
	}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return "an object with " + strings.Join(names, ", ")
}
