"""What lies in a bundle and what travels between client and server: the schemas, and the code that reads them."""
