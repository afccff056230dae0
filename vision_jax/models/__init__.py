"""Networks: linen modules that return `(output, endpoints)`."""
