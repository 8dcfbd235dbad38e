"""A host of wasmCloud 1.x and the components that it runs, written from the protocol. Imports nothing of the project."""
