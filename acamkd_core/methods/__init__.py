"""Distillation methods: one file a method, `registry` builds them from the spec."""
