//! What is shipped beside the programs: settings files that show every key, its default, and that
//! can be used as they are.

mod settings;
