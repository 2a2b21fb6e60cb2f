//! Whether to go on. The solver reads no clock; whoever calls it may.

/// The caller's answer, which stays no once it was.
pub(super) struct Clock<'a> {
    keep_going: &'a mut dyn FnMut() -> bool,
    is_over: bool,
}

impl<'a> Clock<'a> {
    pub(super) fn new(keep_going: &'a mut dyn FnMut() -> bool) -> Self {
        Self { keep_going, is_over: false }
    }

    /// Whether the caller wants an answer now.
    pub(super) fn is_over(&mut self) -> bool {
        if !self.is_over {
            self.is_over = !(self.keep_going)();
        }
        self.is_over
    }
}
