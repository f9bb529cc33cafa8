module kerf.dev/sandbox/sleeper

go 1.24
