//! A customer's own forms of mails.

/// Which part of a mail a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TemplateKind {
    /// The subject: one line.
    Subject,
    /// The part of plain text.
    Text,
    /// The part of HTML.
    Html,
}

impl TemplateKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Subject, Self::Text, Self::Html];

    /// The name of its file in `customers/<name>/templates/`, which is also its name for the template engine.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Subject => "subject.j2",
            Self::Text => "text.j2",
            Self::Html => "html.j2",
        }
    }

    /// The kind whose file this is.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.file() == name)
    }
}

/// Source texts of templates, each well formed for [`environment`](crate::template::environment) and bounded in size. Where
/// there is none, the mail has its usual form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Templates {
    /// `subject.j2`.
    pub subject: Option<String>,
    /// `text.j2`.
    pub text: Option<String>,
    /// `html.j2`.
    pub html: Option<String>,
}

impl Templates {
    /// The source of a kind.
    #[must_use]
    pub fn get(&self, kind: TemplateKind) -> Option<&str> {
        match kind {
            TemplateKind::Subject => self.subject.as_deref(),
            TemplateKind::Text => self.text.as_deref(),
            TemplateKind::Html => self.html.as_deref(),
        }
    }

    pub(crate) fn slot(&mut self, kind: TemplateKind) -> &mut Option<String> {
        match kind {
            TemplateKind::Subject => &mut self.subject,
            TemplateKind::Text => &mut self.text,
            TemplateKind::Html => &mut self.html,
        }
    }
}
