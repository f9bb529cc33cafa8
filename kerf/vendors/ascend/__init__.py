"""Huawei Ascend: templates, soft slices, and 910C modules of two processors."""
