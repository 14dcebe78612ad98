/**
 * The HTTP source: a POST with a JSON array of {"headers": {...}, "body": "text"} is one transaction.
 *
 * 200 after the commit, 400 for what is not such an array, 413 beyond the size limit, 503 with Retry-After while a
 * channel is full. Flume's rules (numbers become strings, a missing body is empty, [] is fine without a
 * transaction) and one extension: "bodyBase64" carries bytes that are no text. Text that is not well-formed is refused
 * instead of changed.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { AppError } from "@millrace/base";
import { z } from "@millrace/config";
import type { ComponentContext, FlowRecord, Intake, PushSource } from "@millrace/flow";
import { listenTcp } from "@millrace/runtime";

/** Seconds a sender is told to wait while a channel is full. */
const retryAfterSeconds = 1;
/** Bodies of the largest size that may be in memory at once; beyond it requests are refused with 503. */
const bodiesAtOnce = 4;

export const httpConfig = z.strictObject({
  bind: z
    .string()
    .default("127.0.0.1")
    .meta({ description: "Address to listen on (Flume's default: 0.0.0.0)." }),
  port: z.coerce
    .number()
    .int()
    .min(0)
    .max(65_535)
    .meta({ description: "Port to listen on; 0 = any free one." }),
  handler: z
    .enum(["json", "org.apache.flume.source.http.JSONHandler"])
    .default("json")
    .meta({ description: "How a request becomes records." }),
  bodyBytesMax: z.coerce
    .number()
    .int()
    .min(1)
    .default(16 * 1024 * 1024)
    .meta({ description: "Largest request, bytes." }),
  recordsMax: z.coerce
    .number()
    .int()
    .min(1)
    .default(10_000)
    .meta({ description: "Most records in one request." }),
});

export type HttpConfig = z.output<typeof httpConfig>;

/** A request that cannot be taken, with its status. */
class Refused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class HttpSource implements PushSource {
  readonly mode = "push";
  readonly #config: HttpConfig;
  readonly #context: ComponentContext;
  readonly #server: Server;
  #port = 0;
  /** Of bodies that are being read. */
  #bodyBytes = 0;

  constructor(config: HttpConfig, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
    this.#server = createServer({ requestTimeout: 30_000, headersTimeout: 10_000, keepAliveTimeout: 30_000 });
    this.#server.maxConnections = 1024;
  }

  async start(intake: Intake, signal: AbortSignal): Promise<void> {
    // A start that failed is tried again: one listener stays.
    this.#server.removeAllListeners("request").on("request", (request, response) => {
      void this.#answer(request, response, intake, signal);
    });
    const { bind, port } = this.#config;
    this.#port = await listenTcp(this.#server, bind, port, `the key port of source ${this.#context.name}`);
  }

  addresses(): readonly { name: string; host: string; port: number }[] {
    return [{ name: "http", host: this.#config.bind, port: this.#port }];
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const timer = this.#context.clock.after(1000, () => this.#server.closeAllConnections());
    await closed;
    timer.cancel();
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    intake: Intake,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const count = await this.#take(request, intake, signal);
      respond(response, 200, `${count} records\n`);
    } catch (thrown) {
      const error = refusalOf(thrown);
      if (error instanceof Refused) {
        if (error.status === 503) response.setHeader("retry-after", String(retryAfterSeconds));
        if (error.status === 405) response.setHeader("allow", "POST");
        // What is left of the body is not read.
        if (!request.complete) response.setHeader("connection", "close");
        respond(response, error.status, `${error.message}\n`);
      } else if (!response.destroyed) {
        this.#context.telemetry.log.warn(
          { source: this.#context.name, error: AppError.from(error).message },
          "A request failed.",
        );
        respond(response, 500, "The records were not taken; send them again.\n");
      }
    }
  }

  async #take(request: IncomingMessage, intake: Intake, signal: AbortSignal): Promise<number> {
    if (request.method !== "POST") throw new Refused(405, "POST a JSON array of records.");
    const charset = charsetOf(request.headers["content-type"] ?? "");
    const body = await this.#readBody(request);
    const records = this.#parse(textOf(body, charset));
    if (records.length === 0) return 0;
    if ((await intake.offer({ records }, { signal })) === "full") {
      throw new Refused(503, "The channel is full; nothing was taken. Send it again later.");
    }
    return records.length;
  }

  async #readBody(request: IncomingMessage): Promise<Buffer> {
    const { bodyBytesMax } = this.#config;
    const tooLarge = `The request is larger than ${bodyBytesMax} bytes (bodyBytesMax).`;
    // Nobody waits for the end of what is refused anyway.
    if (Number(request.headers["content-length"] ?? 0) > bodyBytesMax) throw new Refused(413, tooLarge);
    const chunks: Buffer[] = [];
    let bytes = 0;
    try {
      // The connection must outlive a refusal in the middle: its answer goes over it.
      const body = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
      for await (const chunk of body) {
        bytes += chunk.length;
        this.#bodyBytes += chunk.length;
        if (bytes > bodyBytesMax) throw new Refused(413, tooLarge);
        if (this.#bodyBytes > bodyBytesMax * bodiesAtOnce) {
          throw new Refused(503, "Too many large requests at once; nothing was taken. Send it again later.");
        }
        chunks.push(chunk);
      }
    } finally {
      this.#bodyBytes -= bytes;
    }
    return Buffer.concat(chunks);
  }

  #parse(text: string): FlowRecord[] {
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      throw new Refused(400, "The request is not JSON.");
    }
    if (!Array.isArray(parsed)) throw new Refused(400, "The request is not a JSON array of records.");
    if (parsed.length > this.#config.recordsMax) {
      throw new Refused(413, `The request has more than ${this.#config.recordsMax} records (recordsMax).`);
    }
    const timestampMs = this.#context.clock.nowMs();
    return parsed.map((item, index) => recordOf(item, index, timestampMs, this.#context.name));
  }
}

type Charset = "utf-8" | "utf-16" | "utf-16le" | "utf-16be";

function charsetOf(contentType: string): Charset {
  const charset = /charset=("?)([^;"\s]+)\1/i.exec(contentType)?.[2]?.toLowerCase() ?? "utf-8";
  if (charset === "utf8") return "utf-8";
  if (charset === "utf-8" || charset === "utf-16" || charset === "utf-16le" || charset === "utf-16be")
    return charset;
  throw new Refused(415, `Charset ${charset} is not supported; send UTF-8.`);
}

/** The body's text, without a byte order mark. What is no text is refused: its bytes would not arrive as they were. */
function textOf(body: Buffer, charset: Charset): string {
  // UTF-16 without a mark is big-endian (RFC 2781).
  const isLittle = body[0] === 0xff && body[1] === 0xfe;
  const encoding = charset === "utf-16" ? (isLittle ? "utf-16le" : "utf-16be") : charset;
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(body);
  } catch {
    throw new Refused(400, `The request is not ${charset}; send bytes that are no text as "bodyBase64".`);
  }
}

/** What the sender is told of an error at the put; undefined reasons are failures of this agent. */
function refusalOf(thrown: unknown): unknown {
  if (!(thrown instanceof AppError)) return thrown;
  const { reason, message } = thrown;
  if (reason === "RECORD_TOO_LARGE" || reason === "LIMIT_EXCEEDED") return new Refused(413, message);
  if (reason === "INVALID_RECORD") return new Refused(400, message);
  if (reason === "CANCELLED" || reason === "STORAGE_FAILED")
    return new Refused(503, "The agent takes nothing now; nothing was taken for sure. Send it again later.");
  return thrown;
}

function recordOf(item: unknown, index: number, timestampMs: number, streamId: string): FlowRecord {
  if (typeof item !== "object" || item === null || Array.isArray(item))
    throw new Refused(400, `Record ${index} is not an object.`);
  const { headers, body, bodyBase64 } = item as { headers?: unknown; body?: unknown; bodyBase64?: unknown };
  return {
    key: null,
    value: bodyOf(body, bodyBase64, index),
    headers: headersOf(headers, index),
    timestampMs,
    streamId,
  };
}

function bodyOf(body: unknown, bodyBase64: unknown, index: number): Buffer {
  if (bodyBase64 !== undefined) return bytesOfBase64(bodyBase64, index);
  if (typeof body === "object" && body !== null) throw new Refused(400, `Record ${index}: body is not text.`);
  return bytesOfText(scalarText(body) ?? "", index);
}

function bytesOfBase64(text: unknown, index: number): Buffer {
  if (typeof text !== "string" || text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text))
    throw new Refused(400, `Record ${index}: bodyBase64 is not base64.`);
  return Buffer.from(text, "base64");
}

/** A half of a surrogate pair has no bytes in UTF-8. */
function bytesOfText(text: string, index: number): Buffer {
  if (!text.isWellFormed()) throw new Refused(400, `Record ${index}: a text has half a character.`);
  return Buffer.from(text);
}

function headersOf(headers: unknown, index: number): FlowRecord["headers"] {
  if (headers === undefined || headers === null) return [];
  if (typeof headers !== "object" || Array.isArray(headers))
    throw new Refused(400, `Record ${index}: headers is not an object.`);
  return Object.entries(headers).map(([key, value]: [string, unknown]) => {
    if (typeof value === "object" && value !== null)
      throw new Refused(400, `Record ${index}: header ${JSON.stringify(key)} is not text.`);
    const text = scalarText(value);
    return { key, value: text === undefined ? null : bytesOfText(text, index) };
  });
}

/** Text of a JSON scalar; undefined for null and absent. */
function scalarText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return typeof value === "number" || typeof value === "boolean" ? String(value) : undefined;
}

function respond(response: ServerResponse, status: number, text: string): void {
  if (response.destroyed) return;
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
  response.end(text);
}
