//! Sentences in lines no longer than the terminal is wide.

use textwrap::{Options, WrapAlgorithm};

/// Width of what stands before a field.
pub(super) const LABEL: usize = 13;
/// On less the sentences of a field get a line of their own.
const NARROW: usize = 50;

/// `  label      text`, further lines below the text.
pub(super) fn field(label: &str, text: &str, width: usize) -> String {
    let first = match label {
        "" if width < NARROW => "    ".to_owned(),
        label => format!("  {label:<width$}", width = LABEL - 2),
    };
    let rest = " ".repeat(if width < NARROW { 4 } else { LABEL });
    lines(text, &first, &rest, width)
}

/// A sentence from the left edge on, further lines a little to the right.
pub(super) fn paragraph(text: &str, width: usize) -> String {
    lines(text, "", "  ", width)
}

/// A sentence that belongs to the NIC above.
pub(super) fn note(text: &str, width: usize) -> String {
    lines(text, "  ", "  ", width)
}

/// A sentence from column `first` on, further lines from `rest` on; on a narrow terminal nearer to the
/// edge.
pub(super) fn indented(text: &str, first: usize, rest: usize, width: usize) -> String {
    let (first, rest) = if width < NARROW { (4, 6) } else { (first, rest) };
    lines(text, &" ".repeat(first), &" ".repeat(rest), width)
}

fn lines(text: &str, first: &str, rest: &str, width: usize) -> String {
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(rest)
        .wrap_algorithm(WrapAlgorithm::FirstFit)
        // Half an address or command is worth less than a line that is too long.
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .word_separator(textwrap::WordSeparator::AsciiSpace);
    let mut wrapped = String::new();
    for line in textwrap::wrap(text, options) {
        wrapped += line.trim_end();
        wrapped.push('\n');
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_lines_stand_below_the_text() {
        assert_eq!(field("next", "a b", usize::MAX), "  next       a b\n");
        let text = "one two three four five six seven eight nine ten";
        let wide = "  next       one two three four five six seven eight\n             nine ten\n";
        assert_eq!(field("next", text, 52), wide);
        let narrow = "  next       one two three\n    four five six seven eight\n    nine ten\n";
        assert_eq!(field("next", text, 30), narrow);
    }

    #[test]
    fn no_command_is_cut() {
        assert_eq!(note("`steer-run` x", 6), "  `steer-run`\n  x\n");
    }

    #[test]
    fn colours_take_no_room() {
        let text = "\u{1b}[1maaaa\u{1b}[0m bbbb";
        assert_eq!(note(text, 11), format!("  {text}\n"));
    }
}
