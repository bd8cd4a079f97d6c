//! The client for bad days against a server on the loopback interface that has them.

mod played;
