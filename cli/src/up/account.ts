/**
 * The promise of the first screen as an equation (rule S1), pure.
 *
 *   in = published + in flight + set aside        d = in - published - in flight - set aside
 *
 * Each leg has books on both of its sides, kept by different parties, and is judged by itself, so that a loss on one
 * and a doubling on another cannot hide each other:
 *
 *   sources -> channel    what the sources' positions account for   | the channel's next sequence
 *   channel -> topic      what its sink was done with               | the named producer's sequences in the partitions
 *   topic -> files        the offsets below the connector's resume  | the counts in the commit log (C2)
 *
 * All of it is read in one turn of the event loop: one consistent cut.
 */

/** A partition of the topic, and its task of the connector. Counts of records, offsets from 0. */
export interface PartitionCut {
  /** First offset kept. */
  readonly start: number;
  /** Next offset. */
  readonly end: number;
  /** Records in it that the channel's sink sent: its producer's sequence. */
  readonly sent: number;
  /** Offset where the connector began with this topic. */
  readonly begun: number;
  /** Everything below is in a file or set aside. */
  readonly resume: number;
  /** Records in published files, by the commit log. */
  readonly published: number;
  /** Records the connector's sink set aside, by the commit log. */
  readonly setAside: number;
}

/** What every party's books say at one moment. */
export interface Cut {
  /** Records that the sources' saved positions account for. */
  readonly read: number;
  /** Records interceptors dropped or runners set aside before the channel. */
  readonly setAsideBefore: number;
  /** Next sequence of the channel. */
  readonly channelEnd: number;
  /** First sequence the channel's sink is not done with. */
  readonly channelDone: number;
  /** Records handed to the sink that it is not done with. */
  readonly channelTaken: number;
  /** Records the channel's sink set aside, of those below `channelDone`. */
  readonly setAsideBySink: number;
  readonly partitions: readonly PartitionCut[];
}

/** What the last line shows. Records. */
export interface Account {
  readonly in: number;
  readonly published: number;
  readonly inFlight: number;
  /** Dead letters: neither lost nor published. */
  readonly setAside: number;
  readonly lost: number;
  readonly doubled: number;
}

/** The account of a cut. */
export function accountOf(cut: Cut): Account {
  const sum = (of: (partition: PartitionCut) => number): number =>
    cut.partitions.reduce((total, partition) => total + of(partition), 0);
  const sent = sum((partition) => partition.sent);
  const end = sum((partition) => partition.end);
  const published = sum((partition) => partition.published);

  const legs = [
    cut.read - cut.setAsideBefore - cut.channelEnd,
    sinkLeg(cut, sent),
    ...cut.partitions.map(connectorLeg),
  ];
  const lost = legs.reduce((total, leg) => total + Math.max(0, leg), 0);
  const doubled = legs.reduce((total, leg) => total + Math.max(0, -leg), 0);

  // What others produced into the topic came in there.
  const foreign = end - sent;
  const setAside = cut.setAsideBefore + cut.setAsideBySink + sum((partition) => partition.setAside);
  const total = cut.read + foreign;
  return {
    in: total,
    published,
    inFlight: total - published - setAside - lost + doubled,
    setAside,
    lost,
    doubled,
  };
}

/**
 * Sequences the sink is done with, against those the partitions hold. The partitions are ahead by what the sink was
 * handed and has not confirmed yet; being ahead of that is a doubling, being behind is a loss.
 */
function sinkLeg(cut: Cut, sent: number): number {
  const done = cut.channelDone - cut.setAsideBySink;
  if (sent < done) return done - sent;
  return -Math.max(0, sent - done - cut.channelTaken);
}

/** Offsets below the connector's resume, against its books; what retention took before it came is lost. */
function connectorLeg({ start, begun, resume, published, setAside }: PartitionCut): number {
  const overtaken = Math.max(0, start - Math.max(resume, begun));
  return overtaken + (resume - begun) - published - setAside;
}
