//! Groups, history view, notification decisions and the text of the e-mail. A pure machine.

pub mod machine;
