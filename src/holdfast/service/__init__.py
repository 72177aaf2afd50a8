"""Every verb of the product once, one module for each noun: authorise, act, audit."""
