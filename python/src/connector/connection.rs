//! [`Connection`]: the connector's way to the data worker, which may not be there.

use std::time::Duration;

use chariot_client::{Client, ConnectOptions, Transport, token_from_environment};
use chariot_types::{NamespaceNameError, WorkerAddress};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::describe::{describe, to_value_error};

/// A connection to the data worker at `address` that looks for the worker in the background while it is away.
///
/// `name` is what `dscli status` shows, `namespace` whose the blocks are that are saved; a worker that leaves a request
/// unanswered for `request_timeout` seconds is given up, and looked for again. A worker with tenants is shown the token that
/// the environment holds (CHARIOT_TOKEN) or names (CHARIOT_TOKEN_FILE).
#[pyclass(module = "chariot_ds._native", frozen)]
pub(crate) struct Connection {
    client: Client,
}

impl Connection {
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }
}

#[pymethods]
impl Connection {
    #[new]
    fn new(py: Python<'_>, address: &str, name: String, request_timeout: f64, namespace: &str) -> PyResult<Self> {
        let address: WorkerAddress = address.parse().map_err(to_value_error)?;
        let request_timeout = Duration::try_from_secs_f64(request_timeout).map_err(to_value_error)?;
        let namespace = namespace.parse().map_err(|error: NamespaceNameError| to_value_error(error))?;
        let token = token_from_environment().map_err(to_value_error)?;
        let transport = Transport::Auto;
        let options = ConnectOptions { request_timeout, timeout: request_timeout, transport, name, namespace, token };
        // A worker that is there is connected to at once, so that the first request finds it.
        let client = py.detach(|| {
            Client::connect(&address, options.clone()).or_else(|_| Client::connect_later(&address, options))
        });
        Ok(Self { client: client.map_err(|error| PyRuntimeError::new_err(describe(&error)))? })
    }

    /// Whether the worker is there now.
    fn is_connected(&self) -> bool {
        self.client.is_connected()
    }
}

/// Raises `ValueError` unless `address` can be a data worker's.
#[pyfunction]
pub(crate) fn check_address(address: &str) -> PyResult<()> {
    address.parse::<WorkerAddress>().map(drop).map_err(to_value_error)
}
