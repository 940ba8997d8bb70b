/** Reads commands: with history and completion on a terminal, line by line from anything else. */
import { PassThrough, Writable } from 'node:stream'
import { createInterface, type Interface } from 'node:readline'
import { type Command, complete } from './commands/grammar.ts'

export const PROMPT = 'testpmd> '

/** What the prompt reads from and echoes to. */
export interface Terminal {
  readonly input: NodeJS.ReadStream
  readonly output: NodeJS.WriteStream
}

export interface PromptOptions {
  readonly commands: readonly Command[]
  readonly ports: () => readonly number[]
  /** Runs one line. The next one is read when it has resolved. */
  execute(line: string): Promise<void>
}

/** Cuts `text` behind its first line end; CR LF counts as one. Undefined when there is none. */
export function cutLine(text: string): readonly [string, string] | undefined {
  const end = /\r\n|\r|\n/.exec(text)
  if (end === null) return undefined
  const at = end.index + end[0].length
  return [text.slice(0, at), text.slice(at)]
}

/**
 * Gives the line editor its input a line at a time. Programs that drive testpmd send several lines at once; they expect
 * each to be echoed behind the prompt that asks for it, after the answer to the one before.
 */
class Gate extends PassThrough {
  private readonly from: NodeJS.ReadStream
  private waiting = ''
  private isOpen = false
  private ended = false
  // The editor switches the terminal through these, as if this were the terminal.
  readonly isTTY = true

  constructor(from: NodeJS.ReadStream) {
    super()
    this.from = from
    from.setEncoding('utf8')
    from.on('data', (text: string) => {
      this.waiting += text
      this.pass()
    })
    from.on('end', () => {
      this.ended = true
      this.pass()
    })
  }

  setRawMode(raw: boolean): this {
    this.from.setRawMode?.(raw)
    return this
  }

  /** Lets what was typed through, up to the end of one line. */
  open(): void {
    this.isOpen = true
    this.pass()
  }

  private pass(): void {
    if (!this.isOpen) return
    const cut = cutLine(this.waiting)
    const [line, rest] = cut ?? [this.waiting, '']
    this.waiting = rest
    if (cut !== undefined) this.isOpen = false
    if (line !== '') this.write(line)
    else if (this.ended) this.end()
  }
}

/** The editor's output. A bare prompt goes out as its words alone: the editor would move the cursor around it. */
class Screen extends Writable {
  private readonly to: NodeJS.WriteStream
  private muted = false

  constructor(to: NodeJS.WriteStream) {
    super({ decodeStrings: false })
    this.to = to
  }

  get columns(): number {
    return this.to.columns
  }

  override _write(chunk: string, _encoding: BufferEncoding, done: () => void): void {
    if (!this.muted) this.to.write(chunk)
    done()
  }

  /** Does something of the editor whose drawing is not wanted. */
  quietly(action: () => void): void {
    this.muted = true
    action()
    this.muted = false
  }
}

/** The prompt of a session. */
export class Prompt {
  private readonly terminal: Terminal
  private readonly options: PromptOptions
  private editor: Interface | undefined
  private finish: () => void = () => {}
  private finished = false

  constructor(terminal: Terminal, options: PromptOptions) {
    this.terminal = terminal
    this.options = options
  }

  /** Reads and runs lines; resolves at the end of the input and after {@link close}. */
  run(): Promise<void> {
    const { input, output } = this.terminal
    return new Promise((resolve) => {
      this.finish = resolve
      if (input.isTTY && output.isTTY) this.edit()
      else void this.readLines()
    })
  }

  /** Ends reading, and leaves the terminal as it was. */
  close(): void {
    if (this.finished) return
    this.finished = true
    this.editor?.close()
    this.terminal.input.pause()
    this.finish()
  }

  private edit(): void {
    const gate = new Gate(this.terminal.input)
    const screen = new Screen(this.terminal.output)
    const { commands, ports } = this.options
    const completer = (line: string): [string[], string] => {
      const typed = /\S*$/.exec(line)![0]
      const found = complete(commands, line, ports())
      return [found.map((word) => `${word} `), typed]
    }
    const editor = createInterface({
      input: gate,
      output: screen,
      terminal: true,
      prompt: PROMPT,
      completer,
      tabSize: 8,
    })
    this.editor = editor
    const ask = (): void => {
      if (this.finished) return
      screen.quietly(() => editor.prompt())
      this.terminal.output.write(PROMPT)
      gate.open()
    }
    editor.on('line', (line) => void this.options.execute(line).then(ask))
    // Ctrl-C throws the line away, as in testpmd: it does not end the program.
    editor.on('SIGINT', () => {
      this.terminal.output.write('\r\n')
      // Not by the editor's own keys: it knows none on a dumb terminal.
      Object.assign(editor, { line: '', cursor: 0 })
      ask()
    })
    editor.on('close', () => this.close())
    ask()
  }

  /** Lines from a pipe or a file are echoed, so that a transcript reads like a session. */
  private async readLines(): Promise<void> {
    const { input, output } = this.terminal
    const editor = createInterface({ input, terminal: false })
    this.editor = editor
    output.write(PROMPT)
    for await (const line of editor) {
      if (this.finished) return
      if (!input.isTTY) output.write(`${line}\r\n`)
      await this.options.execute(line)
      if (this.finished) return
      output.write(PROMPT)
    }
    this.close()
  }
}
