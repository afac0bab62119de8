"""The scanner as a web page and a service (`pip install 'sficonv[serve]'`)."""
