package oci

import "net/http"

// DoctorAgent is the User-Agent of `sociable doctor`, which goes the way of a lazy
// client and starts nothing.
const DoctorAgent = "sociable-doctor"

// StartsNothing reports a client that only looks whether a start would succeed:
// what it reads says nothing of what starts read.
func StartsNothing(r *http.Request) bool { return r.UserAgent() == DoctorAgent }
