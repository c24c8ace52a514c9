package web

import (
	"bytes"
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
	var value json.RawMessage
	d := json.NewDecoder(body)
	err := d.Decode(&value)
	if err == nil {
		err = decodeStrictly(value, into)
	}
	if err == nil {
		if _, end := d.Token(); end == io.EOF {
			return nil
		}
		err = errors.New("something stands behind its end")
	}
	var long *http.MaxBytesError
	var wrong *json.UnmarshalTypeError
	message, takes := "the body is not the JSON that this takes: ", fieldsOf(into)
	switch {
	case errors.Is(err, io.EOF):
		return &oci.Error{Code: errcode.ErrorCodeNameInvalid, Err: err, Message: "the body is empty: send JSON, " + takes}
	case errors.Is(err, io.ErrUnexpectedEOF):
		message += "it is cut off"
	case errors.As(err, &long):
		message += fmt.Sprintf("it has more than %d bytes", long.Limit)
	case errors.As(err, &wrong) && strings.HasPrefix(wrong.Value, "number ") && jsonKind(wrong.Type) == "a number":
		message += fmt.Sprintf("%s is %s, which is out of range", wrong.Field, jsonName(wrong.Value))
	case errors.As(err, &wrong) && wrong.Field != "":
		message += fmt.Sprintf("%s is %s, and takes %s", wrong.Field, jsonName(wrong.Value), jsonKind(wrong.Type))
	case errors.As(err, &wrong):
		message += "it is " + jsonName(wrong.Value)
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

// errNull is a body that says nothing, as an empty one does.
var errNull = errors.New("it is null")

func decodeStrictly(value json.RawMessage, into any) error {
	if string(value) == "null" {
		return errNull
	}
	if err := noNulls(value, into); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// noNulls refuses null for what is one of two or a number: encoding/json leaves it as
// it is, so that "dry_run": null, which says nothing, would be a real run.
func noNulls(value json.RawMessage, into any) error {
	var given map[string]json.RawMessage
	t := reflect.TypeOf(into).Elem()
	if t.Kind() != reflect.Struct {
		return nil
	}
	_ = json.Unmarshal(value, &given) // decoding says what is wrong
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch f.Type.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Struct:
			continue
		}
		for key, v := range given {
			if strings.EqualFold(key, name) && string(v) == "null" {
				return fmt.Errorf("%s is null, and takes %s: leave it out", name, jsonKind(f.Type))
			}
		}
	}
	return nil
}

// jsonName is what JSON calls a value, of which encoding/json gives the kind, and
// of a number what it is.
func jsonName(value string) string {
	switch kind, number, _ := strings.Cut(value, " "); {
	case number != "":
		return "the number " + number
	case kind == "bool":
		return "true or false"
	case kind == "array", kind == "object":
		return "an " + kind
	default:
		return "a " + kind
	}
}

// jsonKind is what JSON calls a value of t.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a whole number"
	}
}
