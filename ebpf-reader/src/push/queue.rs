//! Messages that wait to be sent: bounded in bytes, the oldest are dropped first.

use std::collections::VecDeque;

use bytes::Bytes;

/// A message, encoded and compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) body: Bytes,
    pub(super) compressed: bool,
}

/// The queue. The message that is being sent is still in it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Messages that were put in or dropped at the front, ever: tells whether the front is still the same.
    first: u64,
}

impl Queue {
    /// Adds a message, and returns how many were dropped for it. One that is larger than the queue is dropped itself.
    pub(super) fn push(&mut self, message: Message, limit: usize) -> u64 {
        if message.body.len() > limit {
            return 1;
        }
        let mut dropped = 0;
        while self.bytes.saturating_add(message.body.len()) > limit {
            if !self.pop() {
                break;
            }
            dropped += 1;
        }
        self.bytes += message.body.len();
        self.messages.push_back(message);
        dropped
    }

    /// The oldest message, with a number to remove it by.
    pub(super) fn front(&self) -> Option<(u64, Message)> {
        Some((self.first, self.messages.front()?.clone()))
    }

    /// Removes the message with this number, unless it was dropped meanwhile; `false` if it was.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        number == self.first && self.pop()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn pop(&mut self) -> bool {
        match self.messages.pop_front() {
            Some(message) => {
                self.bytes = self.bytes.saturating_sub(message.body.len());
                self.first += 1;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Message {
        Message {
            body: Bytes::from(vec![0; bytes]),
            compressed: false,
        }
    }

    #[test]
    fn the_oldest_go_first() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(message(40), 100), 0);
        assert_eq!(queue.push(message(50), 100), 0);
        let (number, front) = queue.front().unwrap();
        assert_eq!(front.body.len(), 40);
        assert_eq!(queue.push(message(60), 100), 2);
        assert_eq!((queue.len(), queue.bytes()), (1, 60));
        // What was being sent has been dropped: the new front must stay.
        assert!(!queue.remove(number));
        let (number, _) = queue.front().unwrap();
        assert!(queue.remove(number));
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
        assert!(queue.front().is_none());
    }

    #[test]
    fn too_large_for_the_queue() {
        let mut queue = Queue::default();
        queue.push(message(40), 100);
        assert_eq!(queue.push(message(101), 100), 1);
        assert_eq!(queue.bytes(), 40);
    }
}
