// Command sociable is a pull-through registry proxy that indexes large layers
// for lazy loading while they pass.
package main

func main() {}
