//! An emulated `OneDrive` on threads of its own, so that a test may block.

use std::time::Duration;

use graph_emulator::{Emulator, Options, Profile, Running};

/// Longest wait for something to happen on the drive.
const WITHIN: Duration = Duration::from_mins(1);

/// The application that tests sign in as.
pub const CLIENT_ID: &str = "00000000-aaaa-bbbb-cccc-000000000001";

/// An emulated drive.
pub struct Cloud(pub Running);

impl Cloud {
    /// Starts one.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(profile: Profile) -> Self {
        Self(Emulator::launch(Options::new(profile)).expect("the emulator starts"))
    }

    /// Waits until something is true of the drive.
    ///
    /// # Panics
    /// It never was.
    pub fn until(&self, what: &str, look: impl Fn(&Running) -> bool) {
        assert!(
            self.0.block_until(WITHIN, look),
            "waited {WITHIN:?} in vain until {what}"
        );
    }

    /// Waits until a file is there with these bytes, in one version.
    ///
    /// # Panics
    /// It never was.
    pub fn has(&self, path: &str, bytes: &[u8]) {
        self.until(path, |drive| {
            drive.read_file(path).as_deref() == Some(bytes)
        });
    }

    /// The token JSON that rclone keeps, for an import.
    #[must_use]
    pub fn rclone_token(&self) -> String {
        let pair = self.0.issue_token(CLIENT_ID);
        serde_json::json!({
            "access_token": pair.access_token,
            "token_type": "Bearer",
            "refresh_token": pair.refresh_token,
            "expiry": "2020-01-01T00:00:00Z",
        })
        .to_string()
    }
}
