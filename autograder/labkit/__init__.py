"""The teaching harness that the labs import."""
