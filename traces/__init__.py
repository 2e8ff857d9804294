"""Readers of what CANN, MindSpore and torch_npu profilers leave behind."""
