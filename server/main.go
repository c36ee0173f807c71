// Command understudy backs up the configuration of Microsoft 365 tenants into Git.
//
// `understudy --help` lists the commands. Each is a file of this package: what it
// takes, and how it wires the packages below internal together.
package main

import "os"

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
