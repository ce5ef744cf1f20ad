"""What profilers cost: `make bench` runs this package and writes docs/overhead.md."""
