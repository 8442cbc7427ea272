"""Networks trained elsewhere, read as arrays: what their weights mean here, without the libraries that trained them."""
