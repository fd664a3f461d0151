//! What a process needs before anything else runs in it.
//!
//! Two more things belong to a start and are done by Rust's runtime before `main`, so there is
//! nothing to call for them: standard streams that the parent closed are opened on `/dev/null`
//! (otherwise the first socket would become "standard error" and receive log lines), and SIGPIPE
//! is ignored (otherwise a reader that hangs up would end the daemon).

/// Makes ring the one provider of cryptography of this process.
///
/// To be called before the first TLS client or server is built: reqwest panics without a provider.
/// Calling it again does nothing.
pub fn install_crypto() {
    // The error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Allows as many descriptors as the system gives without being asked by root.
///
/// Programs that `select(2)` are why the usual limit is 1024; a daemon with a descriptor for each
/// connection and each open file needs more.
pub fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, getrlimit};

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        super::raise_descriptors();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
