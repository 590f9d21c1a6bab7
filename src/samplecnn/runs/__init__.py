"""What lies on disk after training: reading and writing run folders and models, typed; untrusted input."""
