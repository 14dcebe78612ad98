/** What every push source must do. */
import assert from "node:assert/strict";
import { AppError } from "@millrace/base";
import type { FlowRecord, Intake, Offering, OfferOutcome, PushSource } from "../contract.ts";
import { type ConformanceCase, never, patienceMs, textOf, until, within } from "./cases.ts";

/** One source with a sender's side. */
export interface PushSetup {
  readonly create: () => PushSource;
  /** Sends these as one request where the source has such; resolves with the source's answer. */
  readonly send: (source: PushSource, texts: readonly string[]) => Promise<"accepted" | "refused">;
  readonly tearDown: () => Promise<void>;
}

/** How a push source is tested. */
export interface PushFixture {
  readonly setUp: () => Promise<PushSetup>;
  /** False: senders get no answer (datagrams): only what arrives is checked. */
  readonly answers?: boolean;
}

/** An intake whose outcome the test decides. */
export class TestIntake implements Intake {
  readonly durability: "fsync" | "volatile" = "fsync";
  readonly records: FlowRecord[] = [];
  readonly #notes = new Map<string, Uint8Array>();
  /** What the next offers come to. `hold`: they wait for `release`. */
  mode: "commit" | "full" | "fail" | "hold" = "commit";
  offers = 0;
  #released: (() => void)[] = [];

  get hasRoom(): boolean {
    return this.mode !== "full";
  }

  async whenRoom(signal: AbortSignal): Promise<void> {
    await until("room", () => this.hasRoom || signal.aborted);
  }

  async offer(prepare: Offering | (() => Offering | undefined)): Promise<OfferOutcome> {
    this.offers++;
    if (this.mode === "full") return "full";
    if (this.mode === "fail") throw new AppError("STORAGE_FAILED", "the test's disk failed");
    if (this.mode === "hold") await new Promise<void>((resolve) => this.#released.push(resolve));
    const offering = typeof prepare === "function" ? prepare() : prepare;
    this.records.push(...(offering?.records ?? []));
    for (const { key, value } of offering?.notes ?? []) {
      if (value === null) this.#notes.delete(key);
      else this.#notes.set(key, value);
    }
    return "committed";
  }

  release(): void {
    this.mode = "commit";
    for (const resolve of this.#released.splice(0)) resolve();
  }

  note(key: string): Uint8Array | undefined {
    return this.#notes.get(key);
  }

  notes(prefix: string): ReadonlyMap<string, Uint8Array> {
    return new Map([...this.#notes].filter(([key]) => key.startsWith(prefix)));
  }

  get texts(): string[] {
    return this.records.map(textOf);
  }
}

type Story = (setup: PushSetup, source: PushSource, intake: TestIntake) => Promise<void>;

const takesRecords: Story = async (setup, source, intake) => {
  for (const { port } of source.addresses?.() ?? []) assert.ok(port > 0, "a bound port is told");
  assert.equal(await within("send", setup.send(source, ["one", "two"])), "accepted");
  assert.equal(await within("send", setup.send(source, ["three"])), "accepted");
  assert.deepEqual(intake.texts, ["one", "two", "three"]);
};

/** The sender's answer comes after the commit, never before (reliability A3). */
const answersAfterCommit: Story = async (setup, source, intake) => {
  intake.mode = "hold";
  let answer: string | undefined;
  const sent = setup.send(source, ["held"]).then((outcome) => {
    answer = outcome;
    return outcome;
  });
  await until("the offer", () => intake.offers > 0);
  await pause(50);
  assert.equal(answer, undefined, "no answer before the commit");
  intake.release();
  assert.equal(await within("the answer", sent), "accepted");
  assert.deepEqual(intake.texts, ["held"]);
};

/** A full channel refuses or holds the sender; it never drops and says yes. */
const pushesBack: Story = async (setup, source, intake) => {
  intake.mode = "full";
  const sent = setup.send(source, ["later"]);
  const first = await Promise.race([sent, pause(300)]);
  assert.notEqual(first, "accepted");
  assert.deepEqual(intake.texts, []);
  intake.mode = "commit";
  const outcome = await within("the answer once there is room", sent);
  if (outcome === "refused") {
    assert.deepEqual(intake.texts, [], "refused is not put");
    assert.equal(await within("send again", setup.send(source, ["later"])), "accepted");
  }
  assert.deepEqual(intake.texts, ["later"]);
};

const survivesFailure: Story = async (setup, source, intake) => {
  intake.mode = "fail";
  assert.equal(await within("send", setup.send(source, ["lost?"])), "refused");
  intake.mode = "commit";
  assert.equal(await within("send", setup.send(source, ["fine"])), "accepted");
  assert.deepEqual(intake.texts, ["fine"]);
};

const stops: Story = async (_setup, source) => {
  await within("stop", source.stop());
  await within("stop twice", source.stop());
};

const stopsWhileHeld: Story = async (setup, source, intake) => {
  intake.mode = "hold";
  const sent = setup.send(source, ["held"]).catch(() => "refused");
  await until("the offer", () => intake.offers > 0);
  const stopped = source.stop();
  intake.release();
  await within("stop with a request under way", stopped);
  await within("the answer", Promise.race([sent, pause(patienceMs / 2)]));
};

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The suite of a push source. */
export function conformPushSource(fixture: PushFixture): ConformanceCase[] {
  const answers = fixture.answers !== false;
  const stories: [string, Story, boolean?][] = [
    ["gives records as they are sent, in order", takesRecords],
    ["answers only after the commit", answersAfterCommit, answers],
    ["a full channel holds or refuses the sender, nothing is lost", pushesBack, answers],
    ["a failed put is refused and the source stays up", survivesFailure, answers],
    ["stops, and stops twice", stops],
    ["stops with a request under way", stopsWhileHeld, answers],
  ];
  return stories
    .filter(([, , isMeant]) => isMeant !== false)
    .map(([title, story]) => ({
      title: `push source contract: ${title}`,
      run: async () => {
        const setup = await fixture.setUp();
        const source = setup.create();
        const intake = new TestIntake();
        try {
          await within("start", source.start(intake, never()));
          await story(setup, source, intake);
        } finally {
          await source.stop();
          await setup.tearDown();
        }
      },
    }));
}
