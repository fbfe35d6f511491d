"""Files behind URIs: local folders and object storage through one interface, with retries and conditional writes."""
