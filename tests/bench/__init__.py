"""What profilers cost and how right they are: `make bench` runs this and writes two pages."""
