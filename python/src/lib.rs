//! Python bindings of Chariot.
