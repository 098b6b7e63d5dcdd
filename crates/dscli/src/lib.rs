//! The command line of Chariot.
