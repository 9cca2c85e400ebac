//! What things look like, with colours and without.

use ratatui::style::{Color, Modifier, Style};

/// The looks of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    colored: bool,
}

impl Theme {
    /// With colours, or with bold and reversed text alone.
    pub(super) fn new(colored: bool) -> Self {
        Self { colored }
    }

    fn color(self, color: Color) -> Style {
        if self.colored { Style::new().fg(color) } else { Style::new() }
    }

    /// The bar at the top.
    pub(super) fn title(self) -> Style {
        if self.colored {
            Style::new().fg(Color::Black).bg(Color::Cyan)
        } else {
            Style::new().add_modifier(Modifier::REVERSED)
        }
    }

    /// The bar at the top while the agent is away.
    pub(super) fn alarm(self) -> Style {
        if self.colored {
            Style::new().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD)
        } else {
            Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
        }
    }

    /// Headings of columns and parts.
    pub(super) fn heading(self) -> Style {
        self.color(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// The heading that the table is sorted by.
    pub(super) fn sorted(self) -> Style {
        self.heading().add_modifier(Modifier::UNDERLINED)
    }

    /// The line that is chosen.
    pub(super) fn chosen(self) -> Style {
        if self.colored {
            Style::new().fg(Color::Black).bg(Color::Gray)
        } else {
            Style::new().add_modifier(Modifier::REVERSED)
        }
    }

    /// What is less important than the rest.
    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// A key to be pressed.
    pub(super) fn key(self) -> Style {
        self.color(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// Bars of histories: processors.
    pub(super) fn cpu(self) -> Style {
        self.color(Color::Green)
    }

    /// Bars of histories: memory.
    pub(super) fn memory(self) -> Style {
        self.color(Color::LightBlue)
    }

    /// As it should be.
    pub(super) fn good(self) -> Style {
        self.color(Color::Green)
    }

    /// Between both.
    pub(super) fn waiting(self) -> Style {
        self.color(Color::Yellow)
    }

    /// As it should not be.
    pub(super) fn bad(self) -> Style {
        self.color(Color::Red)
    }

    /// How much of something is taken, in percent.
    pub(super) fn share(self, percent: f64) -> Style {
        match percent {
            90.0.. => self.bad(),
            70.0.. => self.waiting(),
            _ => self.good(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_there_are_none() {
        let plain = Theme::new(false);
        let styles = [
            plain.title(),
            plain.alarm(),
            plain.heading(),
            plain.sorted(),
            plain.chosen(),
            plain.quiet(),
            plain.key(),
            plain.cpu(),
            plain.memory(),
            plain.share(99.0),
            plain.share(75.0),
            plain.share(0.0),
        ];
        assert!(styles.iter().all(|style| style.fg.is_none() && style.bg.is_none()));
        assert_eq!(Theme::new(true).share(95.0).fg, Some(Color::Red));
    }
}
