"""AMD Instinct: any size, cores counted in compute units."""
