//! What is shipped beside the programs: settings files that show every key and can be used as they
//! are, and documents whose promises name tests that exist.

mod docs;
mod settings;
