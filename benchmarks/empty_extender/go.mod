module kerf.dev/benchmarks/empty-extender

go 1.24
