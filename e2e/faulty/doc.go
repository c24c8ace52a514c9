// Package faulty is an upstream registry for tests that goes wrong on order. It
// serves small images out of memory, each behind a link of its own, whose faults
// (package link) make it lie, stall, throttle, redirect or break off:
//
//	r := faulty.New()
//	defer r.Close()
//	img, err := r.Add("some/repository")
//	l, err := link.Start(r.URL(), link.Options{})
//	l.Inject(link.Fault{On: link.Blob(img.Layer), Cut: 1000, Ends: link.Reset})
//
// Its tests put the real program in front of it: each fault under each operation
// of a client, and two of the program in a row.
package faulty
