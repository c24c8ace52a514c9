package oci

// DoctorAgent is the User-Agent of `sociable doctor`, which goes the way of a lazy
// client and starts nothing.
const DoctorAgent = "sociable-doctor"
