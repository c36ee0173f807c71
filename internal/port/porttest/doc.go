// Package porttest holds the conformance suites of the ports: what an
// implementation owes the engine, run by the real thing and by every fake.
package porttest
