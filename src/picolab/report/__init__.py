"""Results as pages: data in, one self-contained HTML file out, no network, no framework."""
