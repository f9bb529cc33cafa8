"""Messages of gateways' reports, generated from `proto/` by `make gen`. Never edited by hand."""
