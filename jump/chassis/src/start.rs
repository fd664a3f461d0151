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
