"""The mathematics models are made of; one idea a file, the plain version first, the fast one beside it."""
