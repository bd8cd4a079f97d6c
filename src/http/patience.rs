//! How long a connection may say nothing: one time until the first byte of an answer, which a
//! server needs to compute it, another between two pieces of it.
//!
//! ureq has a limit for the whole of an answer and one for each piece of it; this is a layer of its
//! connections that tells the two apart by whether something has come.

use std::time::Duration;

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Error, Timeout};

use super::service::Timeouts;

/// Makes connections that know both times.
#[derive(Debug)]
pub(super) struct Patience {
    pub timeouts: Timeouts,
}

impl<In: Transport> Connector<In> for Patience {
    type Out = Watched<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Timeouts { first_byte, silence, .. } = self.timeouts;
        Ok(chained.map(|inner| Watched { inner, first_byte, silence, has_begun: false }))
    }
}

#[derive(Debug)]
pub(super) struct Watched<In> {
    inner: In,
    first_byte: Duration,
    silence: Duration,
    /// Whether something has come since something was sent.
    has_begun: bool,
}

impl<In: Transport> Transport for Watched<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.has_begun = false;
        let per_write = Some(self.silence.into());
        self.inner.transmit_output(amount, NextTimeout { per_write, ..timeout })
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let within = if self.has_begun { self.silence } else { self.first_byte };
        let timeout = NextTimeout { per_read: Some(within.into()), ..timeout };
        match self.inner.await_input(timeout) {
            Ok(came) => {
                self.has_begun = true;
                Ok(came)
            }
            // What is told of a server that never began.
            Err(Error::Timeout(Timeout::PerRead)) if !self.has_begun => {
                Err(Error::Timeout(Timeout::RecvResponse))
            }
            Err(error) => Err(error),
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
