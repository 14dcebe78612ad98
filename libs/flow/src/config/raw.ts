/** A pipeline as written, in one form for both syntaxes, before anything is known about component types. */

/** Path inside a component's configuration. */
export type ConfigPath = readonly PropertyKey[];

/** A component as written. */
export interface RawComponent {
  readonly name: string;
  /** Line where it is first named. */
  readonly line: number;
  readonly type: string | undefined;
  readonly typeLine: number;
  /** Its own keys: flat texts from flume.conf, nested data from YAML. */
  readonly keys:
    | { readonly form: "flat"; readonly map: ReadonlyMap<string, string> }
    | { readonly form: "nested"; readonly data: { readonly [key: string]: unknown } };
  /** Line of a key, or of the nearest thing. */
  readonly lineOf: (path: ConfigPath) => number;
}

/** A source as written. */
export interface RawSource extends RawComponent {
  readonly channels: readonly string[];
  readonly channelsLine: number;
  readonly selector: RawComponent;
  readonly interceptors: readonly RawComponent[];
}

/** A sink as written. */
export interface RawSink extends RawComponent {
  readonly channel: string | undefined;
  readonly channelLine: number;
}

/** A sink group as written. */
export interface RawGroup {
  readonly name: string;
  readonly line: number;
  readonly sinks: readonly string[];
  readonly processor: RawComponent;
}

/** One agent of a file. */
export interface RawPipeline {
  readonly agent: string;
  readonly line: number;
  readonly sources: readonly RawSource[];
  readonly channels: readonly RawComponent[];
  readonly sinks: readonly RawSink[];
  readonly groups: readonly RawGroup[];
}
