"""What in the pages looks measured and is not. Regular expressions of a page's text."""

SETTINGS = (
    # names and versions
    r"arXiv [\d.]+",
    r"(Python|OpenSSH|ExecuTorch|Gradle|AGP|Kotlin|Since) [\d.]+",
    r"(Ray simulation \(|extra\s+, )1\.41",  # Flower's
    # what a command is told, or assumes
    r"\bdensity\s+\d\.\d+(, \d\.\d+)*",
    r"falls from 1 to [\d.]+",
    r"\d+ Mbit/s with \d+ ms each way and \d+ % loss",
    r"\(\s+, \d+ s\)",  # an option's default
    r"\d+ epochs of",
    r"speed 1 trains at 1e9 multiply-adds",
    r"[\d,]+ images",
    r"a variance within a factor of 1\.5",
    # what others report
    r"The paper reports \d+ % fewer bytes",
    # formats
    r"0x\w+ = \d+ bytes",
    r"as 8 bytes",
    # what is fetched, built or made: sizes that change with the packages
    r"\d+ MB(, in about a minute| to fetch| once| \(arm64-v8a\)| \(x86_64\))",
    r"root of \d+ MB",
    r"no more than 40 MB",
    # a tutorial's example
    r"The faint digits were recognised in [\d.]+ % of the cases before, and in [\d.]+ % after",
)
