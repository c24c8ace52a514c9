package main

// origin is where a value was given: "config.yml:12", "SOCIABLE_LISTEN" or
// "--listen".
type origin string
