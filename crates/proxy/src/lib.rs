//! OpenAI-compatible router over prefill and decode instances.
