"""What the help of every command ends with: the words of its usage explained, and two examples or more."""

import argparse
import re

WORDS = {
    "RUN": "RUN is a run folder such as runs/2026-01-31/12-00-00, or the end of its path below runs/\n"
    "if no other ends so (`samplecnn runs` lists them).",
    "MODEL": "MODEL is a run (its folder, or the end of its path below runs/ if no other ends so),\n"
    "a checkpoint, a bundle, a name that `samplecnn models` lists, or hf:OWNER/NAME of the Hugging Face Hub.",
    "STORE": "STORE is a prepared data set: data/NAME, which `samplecnn prepare data=NAME` makes\n"
    "of audio and annotations.",
}
EXAMPLES = {
    "tag": """
        samplecnn tag song.mp3
        samplecnn tag music/ --csv > tags.csv
        samplecnn tag music/ --out tags.sqlite
        samplecnn tag music/ --out tags.sqlite --write-tags --playlists playlists --threshold 0.3
        samplecnn tag --undo samplecnn-undo.jsonl
        samplecnn tag mix.flac --over-time --overlap 0.5 --json
        samplecnn tag music/ --plot pictures --quiet
    """,
    "embed": """
        samplecnn embed music/ --out music.npz
        samplecnn embed mix.flac --levels block7,last --over-time --out mix.parquet
    """,
    "runs": """
        samplecnn runs --sort auc --intervals
        samplecnn runs --open 12-00-00
        samplecnn runs runs/table1-mtat --only network=se --only state=finished --json
    """,
    "evaluate": """
        samplecnn evaluate runs/2026-01-31/12-00-00
        samplecnn evaluate 12-00-00 --json
        samplecnn evaluate runs/demo --under noise,mp3,pitch=-2:-1:1:2
    """,
    "thresholds": """
        samplecnn thresholds runs/demo
        samplecnn thresholds 12-00-00 --precision 0.8
    """,
    "probe": """
        samplecnn probe data/mini --model runs/demo
        samplecnn probe data/mtat --model msd-musicnn --kind mlp --out runs/probe/musicnn-mlp
    """,
    "example": """
        samplecnn example runs/demo
        samplecnn example 12-00-00 --clip 0007
    """,
    "data": """
        samplecnn data check data/mini
        samplecnn data info data/mtat --split clean --top 50
        samplecnn data plot data/mini 0007 --out clip.svg
    """,
    "excitation": """
        samplecnn excitation runs/demo
        samplecnn excitation 12-00-00 --tags guitar,piano,drums --blocks 1,5,9
    """,
    "report": """
        samplecnn report runs/table1-mtat runs/alpha-mtat --out report
        samplecnn report runs --draws 200
    """,
    "export": """
        samplecnn export runs/demo bundle
        samplecnn export 12-00-00 bundle --onnx --half --int8 --license cc-by-4.0
        samplecnn export 12-00-00 bundle --page --runtime package/dist
    """,
    "models": """
        samplecnn models
        samplecnn models --json
    """,
    "import": """
        samplecnn import weights.pth bundle
        samplecnn import weights.npz bundle --tags mtat --license mit
    """,
    "import-keras": """
        samplecnn import-keras weights.hdf5 bundle
        samplecnn import-keras weights.hdf5 bundle --tags tags.txt --force
    """,
    "push": """
        samplecnn push bundle me/my-tagger
        samplecnn push bundle me/my-tagger --public
    """,
    "pull": """
        samplecnn pull mtat-musicnn
        samplecnn pull someone/their-tagger bundle
        samplecnn pull someone/their-tagger@v1 bundle --force
    """,
    "serve": """
        samplecnn serve
        samplecnn serve runs/demo 12-00-00 --port 0
    """,
    "use": """
        samplecnn use runs/demo
        samplecnn use --forget
    """,
    "doctor": """
        samplecnn doctor
        samplecnn doctor --block rese2 --width 128 --json
    """,
}


def explain(name: str, parser: argparse.ArgumentParser) -> None:
    """Have the help of a command end with what its words mean, and with examples."""
    usage = parser.format_help()
    parts = [
        parser.epilog or "",
        *(text for word, text in WORDS.items() if re.search(rf"\b{word}S?\b", usage)),
    ]
    examples = [line.strip() for line in EXAMPLES.get(name, "").strip().splitlines()]
    parts.append("\n  ".join(["examples:", *examples]))
    parser.epilog = "\n\n".join(filter(None, parts))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
