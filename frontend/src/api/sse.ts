/** Server-sent events as a pure parser: chunks of text in, whole messages out (WHATWG HTML, section 9.2.6). */

export interface Message {
  event: string;
  data: string;
  id: string;
}

export class SseParser {
  private rest = '';
  private event = '';
  private data: string[] = [];
  private id = '';

  /** Feeds a chunk, which may end anywhere, and returns the messages that it completed. */
  feed(chunk: string): Message[] {
    const text = this.rest + chunk;
    // A CR at the very end may be half of a CRLF.
    const safe = text.endsWith('\r') ? text.length - 1 : text.length;
    const lines = text.slice(0, safe).split(/\r\n|\n|\r/);
    this.rest = lines.pop()! + text.slice(safe);
    const messages: Message[] = [];
    for (const line of lines) {
      if (line === '') {
        if (this.data.length) messages.push({ event: this.event || 'message', data: this.data.join('\n'), id: this.id });
        this.event = '';
        this.data = [];
      } else if (!line.startsWith(':')) {
        this.field(line);
      }
    }
    return messages;
  }

  private field(line: string): void {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const raw = colon < 0 ? '' : line.slice(colon + 1);
    const value = raw.startsWith(' ') ? raw.slice(1) : raw;
    if (name === 'data') this.data.push(value);
    else if (name === 'event') this.event = value;
    else if (name === 'id' && !value.includes('\0')) this.id = value;
  }
}
